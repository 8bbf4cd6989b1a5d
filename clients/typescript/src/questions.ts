/** From a caller's arguments to the messages on the wire. */
import { reflect } from "@bufbuild/protobuf/reflect";
import { durationFromMs } from "@bufbuild/protobuf/wkt";

import { type GenerateRequest, GenerateRequestSchema } from "./gen/idefics2/v1/generation_pb.js";
import { Priority, type SubmitRequest, SubmitRequestSchema } from "./gen/idefics2/v1/requests_pb.js";
import { type ImageSource, makeImages } from "./images.js";
import { checkTexts, makeInteger, makeMessage, refuseValue } from "./messages.js";
import { findValue } from "./names.js";
import type { Patience } from "./patience.js";

/** What is asked. Left out, an option stays unset on the wire and the service's default holds: that is not 0. */
export interface Question {
  /** The image to ask about. */
  image?: ImageSource;
  /** Further images, after the first one in this order: at most 8 with it. */
  images?: readonly ImageSource[];
  /** The question or instruction. */
  prompt: string;
  /** How many tokens may be generated at most, 1 to 4,096. Default 512. */
  maxNewTokens?: number;
  /** How many tokens must be generated before the model may end its turn. Default 0. */
  minNewTokens?: number;
  /** 1 changes nothing, higher repeats less. 0.01 to 10. Default 1.2. */
  repetitionPenalty?: number;
  /** Higher is more random; 0 always takes the most likely token. 0, or 0.001 to 10. Default 0.4. */
  temperature?: number;
  /** Samples among the likeliest tokens that add up to this. Above 0, up to 1. Default 0.8. */
  topP?: number;
  /** Samples among this many likeliest tokens, 1 to 1,000. Default: no such limit. */
  topK?: number;
  /** The same request with the same seed gives the same answer, but for rounding. 0 to 2**64 - 1, else drawn. */
  seed?: bigint | number;
  /** The answer ends before the first of these texts: at most 8, each of 1 to 128 bytes. */
  stop?: readonly string[];
  /** True reads each image in five pieces: more detail, five times the tokens. Default: the model's. */
  splitImages?: boolean;
  /** Refuses images larger than this many bytes, 1 to 20,000,000. Default 20,000,000. */
  maxImageBytes?: bigint | number;
}

/** What may be said of a submitted request beside what is asked. */
export interface Submission extends Question {
  /** Names the request, and makes sending it again safe: 1 to 128 of `A-Z a-z 0-9 . _ -`. Default: made. */
  requestId?: string;
  /** `low` goes behind all others, but not for ever. Default `normal`. */
  priority?: "normal" | "low";
  /**
   * The request fails if it is not begun so long after it was taken. Above 0, up to a day. Default: as the time
   * budget.
   */
  startTimeoutMs?: number;
  /** The request fails if it has not ended so long after it was taken. Above 0. Default and most: a day. */
  timeBudgetMs?: number;
  /** A public http(s) address that is told of the end by a signed POST. Default: none. */
  webhookUrl?: string;
  /** Refuse the request if more than so many are before it, 0 or more. Default: as the service is set. */
  maxQueueLength?: number;
  /**
   * How long the request is kept after its end. Above 0, up to a day. Default and most: as the service is set.
   */
  keepMs?: number;
}

/** As google.protobuf.Duration has it. */
const MAX_DURATION_MS = 315_576_000_000_000;
const PRIORITIES = { normal: Priority.NORMAL, low: Priority.LOW };

/** Writes a request; reads the files of its images. */
export async function makeRequest(question: Question, patience: Patience): Promise<GenerateRequest> {
  const { image, images = [], seed, maxImageBytes, stop = [], ...options } = question;
  const request = makeMessage(GenerateRequestSchema, {
    ...options,
    stop: [...stop],
    seed: makeInteger("seed", seed),
    maxImageBytes: makeInteger("max_image_bytes", maxImageBytes),
  });
  const sources = image === undefined ? images : [image, ...images];
  Object.assign(request, await makeImages(sources, patience));
  checkTexts(reflect(GenerateRequestSchema, request)); // before it is in a submission, where its fields have longer names
  return request;
}

/** Writes a submission; reads the files of its images. */
export async function makeSubmission(submission: Submission, patience: Patience): Promise<SubmitRequest> {
  const {
    requestId,
    priority,
    startTimeoutMs,
    timeBudgetMs,
    webhookUrl,
    maxQueueLength,
    keepMs,
    ...question
  } = submission;
  const request = makeMessage(SubmitRequestSchema, {
    requestId,
    priority: findValue("priority", PRIORITIES, priority),
    startTimeout: makeDuration("start_timeout", startTimeoutMs),
    timeBudget: makeDuration("time_budget", timeBudgetMs),
    webhookUrl,
    maxQueueLength,
    keep: makeDuration("keep", keepMs),
  });
  return Object.assign(request, { input: await makeRequest(question, patience) });
}

function makeDuration(field: string, ms: number | undefined): ReturnType<typeof durationFromMs> | undefined {
  if (ms !== undefined && !(Math.abs(ms) <= MAX_DURATION_MS)) {
    throw refuseValue(field, `0 to ${MAX_DURATION_MS} milliseconds`, ms);
  }
  return ms === undefined ? undefined : durationFromMs(ms);
}
