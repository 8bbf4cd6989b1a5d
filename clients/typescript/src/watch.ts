/** How requests are followed, over connections that may be lost. */
import { randomUUID } from "node:crypto";

import type { Connection } from "./connection.js";
import { Cursor, isLeft } from "./cursor.js";
import type { Event, GenerateResponse } from "./gen/idefics2/v1/generation_pb.js";
import { RequestService, type SubmitRequest } from "./gen/idefics2/v1/requests_pb.js";
import type { Patience } from "./patience.js";

/** How long it may take to cancel a request that is left. */
const CANCEL_MS = 5000;

/** Yields what is new to `cursor`, to the last event. */
export async function* watch(
  connection: Connection,
  cursor: Cursor,
  patience: Patience,
): AsyncGenerator<Event, void> {
  while (!cursor.isFinished) {
    try {
      yield* readOn(connection, cursor, patience);
      return;
    } catch (error) {
      if (!cursor.isFinished) {
        await patience.pauseAfter(error);
      }
    }
  }
}

/** Submits a request, tells `onEvent` what happens to it, and returns the answer; who leaves cancels it. */
export async function submitAndWatch(
  connection: Connection,
  submission: SubmitRequest,
  onEvent: (event: Event) => unknown,
  patience: Patience,
): Promise<GenerateResponse> {
  submission.requestId ||= randomUUID();
  const cursor = new Cursor(submission.requestId);
  let isTaken = false;
  try {
    await connection.insist(RequestService.method.submit, submission, patience);
    isTaken = true;
    for await (const event of watch(connection, cursor, patience)) {
      await onEvent(event);
    }
  } catch (error) {
    if (!cursor.isFinished && isLeft(error, { isTaken, hasLost: patience.hasLost })) {
      await leave(connection, submission.requestId, patience.headers);
    }
    throw error;
  }
  return cursor.answer();
}

/** Yields what is new on one connection. */
async function* readOn(
  connection: Connection,
  cursor: Cursor,
  patience: Patience,
): AsyncGenerator<Event, void> {
  const { requestId, after } = cursor;
  const events = connection.follow(RequestService.method.watchRequest, { requestId, after }, patience);
  for await (const event of events) {
    patience.restore();
    if (cursor.take(event)) {
      yield event;
    }
  }
  if (!cursor.isFinished) {
    cursor.checkEnd(await connection.ask(RequestService.method.getRequest, { requestId }, patience));
  }
}

async function leave(
  connection: Connection,
  requestId: string,
  headers: Record<string, string>,
): Promise<void> {
  const patience = connection.patience({ deadlineMs: CANCEL_MS, headers });
  patience.begin();
  try {
    await connection.insist(RequestService.method.cancelRequest, { requestId }, patience);
  } catch {
    // Who leaves is told why it left, not that nobody heard of it.
  }
}
