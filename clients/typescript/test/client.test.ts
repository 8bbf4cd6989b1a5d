/** What is promised of this client beyond the contract vectors: signals, classes of errors, sources of bytes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { closeSync, constants, existsSync, openAsBlob, openSync, truncateSync, writeSync } from "node:fs";
import {
  type FileHandle,
  appendFile,
  mkdtemp,
  open,
  readFile,
  readdir,
  rm,
  truncate,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import test, { type TestContext } from "node:test";
import { rootCertificates } from "node:tls";
import { setImmediate as turn } from "node:timers/promises";
import { promisify } from "node:util";

import { Code, ConnectError } from "@connectrpc/connect";
import {
  AuthenticationFailed,
  type CallOptions,
  type Client,
  DeadlineExceeded,
  FileUnreadable,
  type GenerateRequest,
  Idefics2Error,
  InvalidRequest,
  Overloaded,
  type Question,
  ServiceUnavailable,
  SettingInvalid,
  connect,
} from "idefics2-client";

import { refuse, serving } from "./service.js";

const QUESTION = { image: new Uint8Array([1]), prompt: "What?" };
/** Promise.withResolvers, which Node 20 lacks. */
function makeSignal<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((given) => (resolve = given));
  return { promise, resolve };
}
const TEXT = { event: { case: "textDelta", value: { text: "A" } } } as const;

test("the class of an error says its code, and the reason says more", () =>
  serving(
    {
      generation: {
        generate: () => {
          throw refuse(Code.ResourceExhausted, "QUEUE_FULL", "", 250);
        },
      },
    },
    async (client) => {
      await assert.rejects(client.generate(QUESTION), (error) => {
        assert(error instanceof Overloaded && error instanceof Idefics2Error);
        assert.deepEqual([error.name, error.reason, error.retryAfterMs], ["Overloaded", "QUEUE_FULL", 250]);
        return true;
      });
    },
  ));

test("what only reads is asked again, though the service was reached", async () => {
  const losses: string[] = [];
  await serving(
    {
      requests: {
        getRequest: ({ requestId }) => {
          if (losses.length < 2) {
            throw refuse(Code.Unavailable, "STORE_UNAVAILABLE", "", 1);
          }
          return { requestId };
        },
      },
    },
    async (client) => assert.equal((await client.getRequest("r-1")).requestId, "r-1"),
    { retries: { firstPauseMs: 0, onLost: ({ reason }) => losses.push(reason) } },
  );
  assert.deepEqual(losses, ["STORE_UNAVAILABLE", "STORE_UNAVAILABLE"]);
});

test("a pause of any length is one", async () => {
  let numCalls = 0;
  await serving(
    {
      requests: {
        getRequest: () => {
          numCalls += 1;
          throw refuse(Code.Unavailable, "STORE_UNAVAILABLE", "", 30 * 86_400_000);
        },
      },
    },
    (client) => assert.rejects(client.getRequest("r-1", { signal: AbortSignal.timeout(300) }), /timeout/),
    { retries: { maxPauseMs: Infinity } },
  );
  assert.equal(numCalls, 1);
});

test("an option of retries that is undefined is as if it was left out", async () => {
  let numCalls = 0;
  await serving(
    {
      requests: {
        getRequest: () => {
          numCalls += 1;
          throw refuse(Code.Unavailable, "STORE_UNAVAILABLE");
        },
      },
    },
    (client) => assert.rejects(client.getRequest("r-1"), ServiceUnavailable),
    {
      retries: { attempts: undefined, firstPauseMs: 0, maxPauseMs: undefined, onLost: undefined },
      deadlineMs: 5000,
    },
  );
  assert.equal(numCalls, 3);
});

test("nothing is asked again before the time that the service asks for", async () => {
  let numCalls = 0;
  await serving(
    {
      requests: {
        getRequest: () => {
          numCalls += 1;
          throw refuse(Code.Unavailable, "STORE_UNAVAILABLE", "", 900);
        },
      },
    },
    (client) => assert.rejects(client.getRequest("r-1", { deadlineMs: 300 }), DeadlineExceeded),
  );
  assert.equal(numCalls, 1);
});

for (const deadlineMs of [10e7, 2 ** 31, 1e300, Infinity]) {
  test(`a deadline of ${deadlineMs} ms is not over at once`, async () => {
    const told: (number | undefined)[] = [];
    await serving(
      {
        requests: {
          getRequest: ({ requestId }, { timeoutMs }) => {
            told.push(timeoutMs());
            return { requestId };
          },
        },
      },
      async (client) => {
        await client.getRequest("r-1", { deadlineMs });
        await client.upload(Readable.from([]), { deadlineMs }).catch(({ code }) => told.push(code));
      },
    );
    assert.equal(told[0] === undefined, deadlineMs === Infinity);
    assert((told[0] ?? 99e6) > 98e6);
    assert.equal(told[1], "UNIMPLEMENTED");
  });
}

test("a deadline that is no number is refused, and not over at once", async () => {
  using client = connect("127.0.0.1:1");
  await assert.rejects(client.generate(QUESTION, { deadlineMs: Number("soon") }), (error) => {
    assert(error instanceof InvalidRequest);
    assert.equal(error.message, "deadlineMs must be a number of milliseconds, not NaN");
    assert.equal(error.field, "deadlineMs");
    return true;
  });
});

test("what is sent along does not spoil the key, and goes with the cancelling of what is left too", async () => {
  const seen: (string | null)[][] = [];
  const note = (header: Headers) => seen.push([header.get("authorization"), header.get("traceparent")]);
  await serving(
    {
      requests: {
        submit: ({ requestId }, { requestHeader }) => {
          note(requestHeader);
          return { requestId };
        },
        async *watchRequest(_, { requestHeader }) {
          note(requestHeader);
          yield { sequence: 1n, ...TEXT };
        },
        cancelRequest: ({ requestId }, { requestHeader }) => {
          note(requestHeader);
          return { requestId };
        },
      },
    },
    async (client) => {
      const onEvent = () => assert.fail("mine");
      const headers = { Authorization: "Key mine", TraceParent: "00-1-2-01" };
      await assert.rejects(client.submitAndWatch(QUESTION, { headers, onEvent }), /mine/);
    },
  );
  assert.deepEqual(seen, Array(3).fill(["Key local.key", "00-1-2-01"]));
});

test("a signal that is aborted already throws its reason, and nobody is called", () =>
  serving({}, async (client) => {
    const signal = AbortSignal.abort(new Error("mine"));
    await assert.rejects(client.generate(QUESTION, { signal }), /mine/);
    await assert.rejects(client.watch("r-1", { signal }).next(), /mine/);
    await assert.rejects(client.upload(new Uint8Array(9), { signal }), /mine/);
  }));

test("a signal in the middle of an answer throws its reason and cancels the call", async () => {
  const { promise: cancelled, resolve } = makeSignal<void>();
  await serving(
    {
      generation: {
        async *generateStream(_, { signal }) {
          yield TEXT;
          await once(signal, "abort");
          resolve();
        },
      },
    },
    async (client) => {
      const controller = new AbortController();
      const events = client.stream(QUESTION, { signal: controller.signal });
      const first = await events.next();
      assert.equal(first.value?.event.case, "textDelta");
      controller.abort();
      await assert.rejects(events.next(), { name: "AbortError" });
      await cancelled;
    },
  );
});

test("a signal cancels the request that is waited for", async () => {
  const { promise: cancelled, resolve } = makeSignal<string>();
  await serving(
    {
      requests: {
        submit: ({ requestId }) => ({ requestId }),
        async *watchRequest(_, { signal }) {
          yield { sequence: 1n, ...TEXT };
          await once(signal, "abort");
        },
        cancelRequest: ({ requestId }) => {
          resolve(requestId);
          return { requestId };
        },
      },
    },
    async (client) => {
      const controller = new AbortController();
      const options = { signal: controller.signal, onEvent: () => controller.abort() };
      await assert.rejects(client.submitAndWatch({ ...QUESTION, requestId: "mine" }, options), {
        name: "AbortError",
      });
      assert.equal(await cancelled, "mine");
    },
  );
});

const LARGE = Buffer.alloc(3_000_000, "BM, and no two pieces alike");
const SOURCES = {
  bytes: () => new Uint8Array(LARGE),
  "a Blob": () => new Blob([LARGE]),
  "a stream of Node": () => Readable.from([LARGE.subarray(0, 7), LARGE.subarray(7)]),
  "a stream of the web": () => new Blob([LARGE]).stream(),
};
for (const [name, make] of Object.entries(SOURCES)) {
  test(`${name} can be uploaded, and sent again after a loss`, async () => {
    const received: Buffer[] = [];
    let isLost = false;
    await serving(
      {
        files: {
          getFile: () => {
            throw refuse(Code.NotFound, "FILE_NOT_UPLOADED");
          },
          getUpload: () => {
            throw refuse(Code.NotFound, "UPLOAD_NOT_FOUND");
          },
          async upload(messages) {
            received.length = 0;
            for await (const { content } of messages) {
              received.push(content.case === "chunk" ? Buffer.from(content.value) : Buffer.alloc(0));
              if (!isLost && received.length === 2) {
                isLost = true;
                throw new ConnectError("cut", Code.Unavailable);
              }
            }
            return { id: "f" };
          },
        },
      },
      async (client) => {
        assert.equal((await client.upload(make())).id, "f");
        const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
        assert.equal(digest(Buffer.concat(received)), digest(LARGE));
      },
    );
  });
}

test("a pipe at a path is uploaded whole", () =>
  inFolder(async (folder) => {
    const received: Uint8Array[] = [];
    await serving(taking(received), async (client) => {
      const path = await makePipe(folder, "pipe");
      await Promise.all([client.upload(path), writeFile(path, LARGE.subarray(0, 2_000_000))]);
    });
    assert(Buffer.concat(received).equals(LARGE.subarray(0, 2_000_000)));
  }));

test("pipes whose writers come late are read whole, and hold up no other file", { timeout: 20_000 }, () =>
  inFolder(async (folder) => {
    const names = ["1", "2", "3", "4", "5", "6"]; // more than Node has threads
    const images = await Promise.all(names.map((name) => makePipe(folder, name)));
    await serving(reading(), async (client) => {
      const answered = client.generate({ prompt: "What?", images }, { deadlineMs: 10_000 });
      await turn();
      assert.deepEqual((await readdir(folder)).sort(), names);
      const writers = await Promise.race([Promise.all(images.map(openWriter)), answered]);
      assert(Array.isArray(writers), "a pipe without a writer was read");
      writers.forEach((writer, place) => {
        writeSync(writer, Buffer.from([place + 1]));
        closeSync(writer);
      });
      assert.equal((await answered).output, names.join());
    });
  }),
);

type Ask = (client: Client, image: string, options: CallOptions) => Promise<unknown>;
const READERS: Record<string, Ask> = {
  generate: (client, image, options) => client.generate({ ...QUESTION, image }, options),
  stream: (client, image, options) => client.stream({ ...QUESTION, image }, options).next(),
  countTokens: (client, image, options) => client.countTokens({ ...QUESTION, image }, options),
  submit: (client, image, options) => client.submit({ ...QUESTION, image }, options),
  submitAndWatch: (client, image, options) => client.submitAndWatch({ ...QUESTION, image }, options),
  upload: (client, path, options) => client.upload(path, options),
};
for (const [name, ask] of Object.entries(READERS)) {
  test(`neither deadline nor signal of ${name} waits for a pipe`, { timeout: 20_000 }, () =>
    inFolder((folder) =>
      serving({}, async (client) => {
        const path = await makePipe(folder, "pipe");
        await assert.rejects(ask(client, path, { deadlineMs: 100 }), DeadlineExceeded);
        const controller = new AbortController();
        const { signal } = controller;
        const left = assert.rejects(ask(client, path, { signal }), /mine/);
        const writer = await openWriter(path); // which is silent
        controller.abort(new Error("mine"));
        await left;
        closeSync(writer);
      }),
    ),
  );
}

test("an image that cannot be read lets nobody wait for the others", { timeout: 20_000 }, () =>
  inFolder(async (folder) => {
    const pipe = await makePipe(folder, "pipe");
    const { stdout } = await runProgram(
      `const images = ${JSON.stringify([pipe, join(folder, "nowhere.png")])};
       const client = connect("127.0.0.1:1");
       await client.generate({ prompt: "What?", images }).catch((error) => console.log(error.name));`,
    );
    assert.equal(stdout, "FileUnreadable\n");
  }),
);

test("the name of a path and of a File is sent as far as the service takes names", () =>
  inFolder(async (folder) => {
    const names: string[] = [];
    await serving(
      {
        files: {
          async upload(messages) {
            for await (const { content } of messages) {
              names.push(...(content.case === "start" ? [content.value.name] : []));
            }
            return { id: "f" };
          },
        },
      },
      async (client) => {
        const path = join(folder, "a\tcat\u2028.bmp");
        await writeFile(path, "BM");
        await client.upload(path);
        await client.upload(new File(["BM"], "a\tcat\u2028.bmp"));
        await client.upload(new File(["BM"], `${"a".repeat(254)}é.bmp`));
        await client.upload(new File(["BM"], "cat.bmp"), { name: "dog.bmp" });
      },
    );
    assert.deepEqual(names, ["acat.bmp", "acat.bmp", "a".repeat(254), "dog.bmp"]);
  }));

const CONTENT = Buffer.from("BM, all of it");
/** Gives a file, once `numAwaited` such calls are there. */
function giving(numAwaited = 1): Parameters<typeof serving>[0] {
  const { promise: allHere, resolve } = makeSignal<void>();
  let numCalls = 0;
  return {
    files: {
      async *downloadFile() {
        numCalls += 1;
        if (numCalls === numAwaited) {
          resolve();
        }
        await allHere;
        const sha256 = createHash("sha256").update(CONTENT).digest("hex");
        yield { content: { case: "file", value: { id: "f", sha256 } } } as const;
        yield { content: { case: "chunk", value: CONTENT } } as const;
      },
    },
  };
}
/** Answers with the bytes of the images. */
function reading(): Parameters<typeof serving>[0] {
  const generate = ({ images }: GenerateRequest) => ({
    output: images.map(({ source }) => source.value).join(),
  });
  return { generation: { generate } };
}
/** Takes a file, and keeps its bytes in `received`. */
function taking(received: Uint8Array[] = []): Parameters<typeof serving>[0] {
  return {
    files: {
      async upload(messages) {
        for await (const { content } of messages) {
          received.push(content.case === "chunk" ? content.value : new Uint8Array());
        }
        return { id: "f" };
      },
    },
  };
}
async function makePipe(folder: string, name: string): Promise<string> {
  const path = join(folder, name);
  await promisify(execFile)("mkfifo", [path]);
  return path;
}
/** Opens a pipe for writing, as soon as somebody reads it; by no thread, for those may be taken. */
async function openWriter(path: string): Promise<number> {
  for (;;) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, "ENXIO");
      await turn();
    }
  }
}
/** Runs a program, which has `connect`, where the shell did `prepare`; rejects where it fails. */
function runProgram(program: string, prepare = "true"): Promise<{ stdout: string }> {
  const source = `import { connect } from "idefics2-client"; ${program}`;
  const command = [process.execPath, "--input-type=module", "--eval", source];
  return promisify(execFile)("sh", ["-c", `${prepare} && exec "$0" "$@"`, ...command]);
}
/** Calls `act` where an open file is read, with what the system would do. */
async function mockReading(context: TestContext, act: Act): Promise<void> {
  const some = await open(process.execPath);
  const original = some.read as (...call: Piece) => Promise<unknown>;
  context.mock.method(Object.getPrototypeOf(some), "read", function (this: FileHandle, ...call: Piece) {
    return act((...other) => original.apply(this, other), ...call);
  });
  await some.close();
}
type Piece = [bytes: Buffer, offset: number, length: number, position: number];
type Act = (read: (...piece: Piece) => Promise<unknown>, ...piece: Piece) => Promise<unknown>;
function isUnreadable(error: unknown, ...words: string[]): true {
  assert(error instanceof FileUnreadable && error.cause instanceof Error, String(error));
  words.forEach((word) => assert(error.message.includes(word), error.message));
  return true;
}
async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "idefics2-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("a file that is too large is refused before it is read", () =>
  inFolder(async (folder) => {
    using client = connect("127.0.0.1:1");
    const path = join(folder, "large.bmp");
    await writeFile(path, "BM");
    await truncate(path, 2 ** 40); // of which the disk holds nothing
    for (const image of [path, "/dev/zero"]) {
      await assert.rejects(client.generate({ ...QUESTION, image }), { reason: "FILE_TOO_LARGE" });
    }
  }));

test("images that are too large together are refused as such, and what fits is sent", () =>
  serving({ generation: { generate: ({ images }) => ({ output: `${images.length}` }) } }, async (client) => {
    const image = new Uint8Array(14_640_000);
    const uri = `data:image/bmp;base64,${"A".repeat(14_640_000)}`;
    assert.equal((await client.generate({ prompt: "What?", images: [image, image] })).output, "2");
    for (const images of [
      [image, image, new Uint8Array(20_000)],
      [uri, image, new Uint8Array(20_000)],
    ]) {
      await assert.rejects(client.submit({ prompt: "What?", images }), (error) => {
        assert(error instanceof InvalidRequest);
        assert.deepEqual([error.reason, error.field], ["PAYLOAD_TOO_LARGE", "images"]);
        assert.match(error.message, /upload/);
        return true;
      });
    }
  }));

test("downloads to one path at a time disturb neither each other nor other files", () =>
  inFolder((folder) =>
    serving(giving(2), async (client) => {
      const path = join(folder, "cat.bmp");
      await writeFile(`${path}.part`, "mine");
      await Promise.all([client.download("f", path), client.download("f", path)]);
      assert.deepEqual(await readFile(path), CONTENT);
      assert.equal(await readFile(`${path}.part`, "utf8"), "mine");
      assert.equal((await readdir(folder)).length, 2);
    }),
  ));

test("a download goes on where the system writes less than it is told to", (context) =>
  inFolder((folder) =>
    serving(giving(), async (client) => {
      const path = join(folder, "cat.bmp");
      const some = await open(path, "w");
      const write: (bytes: Buffer, offset: number, length: number) => Promise<unknown> = some.write;
      context.mock.method(Object.getPrototypeOf(some), "write", function (this: FileHandle, bytes: Buffer) {
        return write.call(this, bytes, 0, 3);
      });
      await some.close();
      await client.download("f", path);
      assert.deepEqual(await readFile(path), CONTENT);
    }),
  ));

test("a path that cannot be written is told by its name, with the system's code", () =>
  inFolder(async (folder) => {
    await serving(giving(), async (client) => {
      const path = join(folder, "nowhere", "cat.bmp");
      await assert.rejects(client.download("f", path), (error: NodeJS.ErrnoException) => {
        assert(error.message.startsWith(`cannot write ${path}: `), error.message);
        assert.deepEqual([error.code, (error.cause as NodeJS.ErrnoException).code], ["ENOENT", "ENOENT"]);
        return true;
      });
      await assert.rejects(client.download("f", folder), (error: NodeJS.ErrnoException) => {
        assert(error.message.startsWith(`cannot write ${folder}: `), error.message);
        return true;
      });
      assert.deepEqual(await readdir(folder), []);
    });
  }));

test("a download that fails leaves no file", () =>
  inFolder(async (folder) => {
    using client = connect("127.0.0.1:1");
    await assert.rejects(client.download("f", join(folder, "cat.bmp")), ServiceUnavailable);
    assert.deepEqual(await readdir(folder), []);
  }));

test("neither deadline nor signal waits for a source that is silent", { timeout: 20_000 }, () =>
  serving({}, async (client) => {
    async function* make() {
      yield new Uint8Array(3);
      await new Promise(() => undefined);
    }
    await assert.rejects(client.upload(make(), { deadlineMs: 200 }), DeadlineExceeded);
    const controller = new AbortController();
    const uploaded = client.upload(make(), { signal: controller.signal });
    setImmediate(() => controller.abort(new Error("mine")));
    await assert.rejects(uploaded, /mine/);
  }),
);

test("a file that is not there is told by its name, with the system's error", async () => {
  using client = connect("127.0.0.1:1");
  const question = { image: "nowhere.png", prompt: "What?" };
  for (const call of [() => client.upload("nowhere.png"), () => client.generate(question)]) {
    await assert.rejects(call, (error) => {
      assert(error instanceof FileUnreadable);
      assert.match(error.message, /nowhere\.png/);
      assert.equal((error.cause as NodeJS.ErrnoException).code, "ENOENT");
      return true;
    });
  }
});

test("the deadline of a source that is silent is kept where nothing else keeps the program", async () => {
  const { stdout } = await runProgram(
    `const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined) }) };
     const client = connect("127.0.0.1:1");
     await client.upload(silent, { deadlineMs: 100 }).catch((error) => console.log(error.code));`,
  );
  assert.equal(stdout, "DEADLINE_EXCEEDED\n");
});

test("a stream that nobody waits for leaves no file, wherever files are kept", () =>
  inFolder(async (folder) => {
    for (const kept of [folder, join(folder, "nowhere")]) {
      const { stdout } = await runProgram(
        `import { Readable } from "node:stream";
         const client = connect("127.0.0.1:1");
         const signal = AbortSignal.abort(new Error("mine"));
         for (const options of [{ signal }, { deadlineMs: 0 }]) {
           await client.upload(Readable.from([]), options).catch((error) => console.log(error.message));
         }
         process.on("exit", () => console.log("went on"));`,
        `export TMPDIR=${kept}`,
      );
      assert.equal(stdout, "mine\nthe deadline passed before the answer was complete\nwent on\n");
    }
    assert.deepEqual(await readdir(folder), []);
  }));

test("a pipe that nobody waits for is not opened", { skip: !existsSync("/proc/self/fd") }, () =>
  inFolder((folder) =>
    serving({}, async (client) => {
      const pipe = await makePipe(folder, "pipe");
      const writer = openSync(pipe, constants.O_RDWR); // lets everybody open it at once
      const before = await readdir("/proc/self/fd");
      const signal = AbortSignal.abort(new Error("mine"));
      await assert.rejects(client.upload(pipe, { signal }), /mine/);
      assert.equal((await readdir("/proc/self/fd")).length, before.length);
      closeSync(writer);
    }),
  ),
);

test("a folder is no file, even if it is told to be empty", () =>
  serving(taking(), async (client) => {
    for (const path of ["/sys", tmpdir()].filter(existsSync)) {
      for (const call of [() => client.upload(path), () => client.generate({ ...QUESTION, image: path })]) {
        await assert.rejects(call, (error) => isUnreadable(error, path, "it is a directory"));
      }
    }
  }));

test("a file that becomes shorter while it is uploaded is told as such", () =>
  inFolder((folder) =>
    serving(taking(), async (client) => {
      const path = join(folder, "cat.bmp");
      await writeFile(path, LARGE.subarray(0, 2_000_000));
      const onProgress = () => truncateSync(path, 5);
      await assert.rejects(client.upload(path, { onProgress }), (error) =>
        isUnreadable(error, `cannot read ${path}: it became shorter meanwhile`),
      );
    }),
  ));

test("a file is uploaded whole where the system reads less than it is told to", (context) =>
  inFolder(async (folder) => {
    const received: Uint8Array[] = [];
    await serving(taking(received), async (client) => {
      const path = join(folder, "cat.bmp");
      await writeFile(path, CONTENT);
      await mockReading(context, (read, bytes, offset, length, position) =>
        read(bytes, offset, Math.min(length, 3), position),
      );
      await client.upload(path);
    });
    assert.deepEqual(Buffer.concat(received), CONTENT);
  }));

test("a file that cannot be read on while it is uploaded is told by its name", (context) =>
  inFolder((folder) =>
    serving(taking(), async (client) => {
      const path = join(folder, "cat.bmp");
      await writeFile(path, CONTENT);
      let isMeasured = false;
      await mockReading(context, async (read, ...call) => {
        assert(!isMeasured, "EIO");
        return read(...call);
      });
      const onProgress = () => (isMeasured = true);
      await assert.rejects(client.upload(path, { onProgress }), (error) => isUnreadable(error, path, "EIO"));
    }),
  ));

test("a Blob of a file that changed is told as unreadable", () =>
  inFolder((folder) =>
    serving(taking(), async (client) => {
      const path = join(folder, "cat.bmp");
      await writeFile(path, CONTENT);
      const blob = await openAsBlob(path);
      await appendFile(path, CONTENT);
      for (const call of [() => client.upload(blob), () => client.generate({ ...QUESTION, image: blob })]) {
        await assert.rejects(call, (error) => isUnreadable(error, "cannot read the"));
      }
    }),
  ));

for (const [prepare, code] of [
  ["export TMPDIR=/nowhere", "ENOENT"],
  ["ulimit -f 1", "EFBIG"], // half a KiB, or one
] as const) {
  test(`a stream that cannot be kept on disk is told as unreadable, with where: ${code}`, async () => {
    const { stdout } = await runProgram(
      `import { Readable } from "node:stream";
       const client = connect("127.0.0.1:1");
       await client.upload(Readable.from([Buffer.alloc(5000)])).catch(({ name, message, cause }) =>
         console.log(name, message, cause.code));`,
      prepare,
    );
    assert.match(stdout, /^FileUnreadable cannot keep a copy in \/.*: /);
    assert(stdout.endsWith(` ${code}\n`), stdout);
  });
}

test("what a caller's own stream and function throw is thrown as it is", () =>
  serving(taking(), async (client) => {
    const mine = Object.assign(new Error("mine"), { code: "EIO", syscall: "read" });
    const throwing = () => {
      throw mine;
    };
    const isMine = (error: unknown) => error === mine;
    await assert.rejects(client.upload(new Readable({ read: throwing })), isMine);
    await assert.rejects(client.upload(CONTENT, { onProgress: throwing }), isMine);
  }));

test("a service that is away is told by its address, with what to do", async () => {
  using client = connect("127.0.0.1:1");
  await assert.rejects(client.generate(QUESTION), (error) => {
    assert(error instanceof ServiceUnavailable);
    assert.match(error.message, /127\.0\.0\.1:1.*IDEFICS2_CLIENT_TARGET/);
    return true;
  });
});

test("TLS to a port without it is told as such, and not tried again", () =>
  serving({}, async (client) => {
    using other = connect(client.target, { tls: true });
    await assert.rejects(other.countTokens(QUESTION), (error) => {
      assert(error instanceof SettingInvalid);
      assert.equal(error.field, "tls");
      return true;
    });
  }));

test("a port that speaks HTTP is told with where to look", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  using client = connect(`127.0.0.1:${(server.address() as AddressInfo).port}`);
  await assert.rejects(client.generate(QUESTION), (error) => {
    assert(error instanceof ServiceUnavailable);
    assert.match(error.message, /whether the port is gRPC's, and both sides speak TLS/);
    return true;
  });
  server.close();
});

test("certificates and keys that cannot be used are refused at once, without being shown", () => {
  const [cert = "", other] = rootCertificates;
  const { privateKey } = generateKeyPairSync("ed25519");
  const key = privateKey.export({ format: "pem", type: "pkcs8" });
  const wrong = [
    [{ ca: "secret" }, /tls\.ca/],
    [{ cert, ca: cert }, /tls\.key/],
    [{ key }, /tls\.cert/],
    [{ cert: "secret", key }, /tls\.cert/],
    [{ cert, key: "secret" }, /tls\.key/],
    [{ cert, key }, /tls\.key/], // of another certificate
  ] as const;
  for (const [tls, words] of wrong) {
    assert.throws(
      () => connect("host", { tls }),
      (error) => {
        assert(error instanceof SettingInvalid);
        assert.deepEqual([error.code, error.field], ["INVALID_ARGUMENT", "tls"]);
        assert.match(error.message, words);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      },
    );
  }
  connect("host", { tls: { ca: `${cert}\n${other}` } }).close();
});

test("what the wire cannot hold names its field", async () => {
  using client = connect("127.0.0.1:1");
  const wrong = [
    [{ prompt: "\udc80" }, "prompt", "TEXT_NOT_UNICODE"],
    [{ stop: ["\ud800"] }, "stop", "TEXT_NOT_UNICODE"],
    [{ images: ["https://a/\ud800"] }, "images.url", "TEXT_NOT_UNICODE"],
  ] as const;
  for (const [options, field, reason] of wrong) {
    await assert.rejects(client.generate({ ...QUESTION, ...options }), (error) => {
      assert(error instanceof InvalidRequest);
      assert.deepEqual([error.field, error.reason], [field, reason]);
      return true;
    });
  }
});

test("a number that the wire cannot hold is told with its bound, as the service tells it", async () => {
  using client = connect("127.0.0.1:1");
  const wrong = [
    [{ topK: 2 ** 31 }, "top_k", "-2147483648 to 2147483647", "2147483648"],
    [{ maxNewTokens: 1.5 }, "max_new_tokens", "a whole number", "1.5"],
    [{ maxNewTokens: NaN }, "max_new_tokens", "a whole number", "NaN"],
    [{ topK: -Infinity }, "top_k", "a whole number", "-Infinity"],
    [{ seed: -1n }, "seed", "0 to 18446744073709551615", "-1"],
    [{ seed: 2n ** 64n }, "seed", "0 to 18446744073709551615", "18446744073709551616"],
    [{ seed: 10n ** 100n }, "seed", "0 to 18446744073709551615", `1${"0".repeat(79)}`],
    [{ seed: 0.5 }, "seed", "a whole number", "0.5"],
    [{ maxImageBytes: 2n ** 63n }, "max_image_bytes", `${-(2n ** 63n)} to ${2n ** 63n - 1n}`, `${2n ** 63n}`],
    [{ keepMs: NaN }, "keep", "0 to 315576000000000 milliseconds", "NaN"],
    [{ timeBudgetMs: 1e300 }, "time_budget", "0 to 315576000000000 milliseconds", "1e+300"],
  ] as const;
  for (const [options, field, bound, value] of wrong) {
    await assert.rejects(client.submit({ ...QUESTION, ...options }), (error) => {
      assert(error instanceof InvalidRequest, String(error));
      assert.equal(error.message, `${field} must be ${bound}, not ${value}`);
      assert.deepEqual([error.field, error.reason], [field, "VALUE_OUT_OF_RANGE"]);
      assert.deepEqual(error.metadata, { field, bound, value });
      return true;
    });
  }
});

test("a number of another type than the wire has for it is told with what it must be", async () => {
  using client = connect("127.0.0.1:1");
  const wrong = [
    [{ temperature: 1n }, "temperature", "a number", "the bigint 1"],
    [{ topP: Symbol("a") }, "top_p", "a number", "the symbol Symbol(a)"],
    [{ topK: 5n }, "top_k", "a whole number", "the bigint 5"],
    [{ topK: "many" }, "top_k", "a whole number", "the string many"],
    [{ maxNewTokens: {} }, "max_new_tokens", "a whole number", "object"],
  ] as const;
  for (const [options, field, bound, value] of wrong) {
    const question = { ...QUESTION, ...options } as unknown as Question; // as JavaScript may write it
    await assert.rejects(client.generate(question), (error) => {
      assert(error instanceof InvalidRequest, String(error));
      assert.equal(error.message, `${field} must be ${bound}, not ${value}`);
      assert.deepEqual([error.field, error.reason], [field, "VALUE_OUT_OF_RANGE"]);
      assert.deepEqual(error.metadata, { field, bound, value });
      return true;
    });
  }
});

test("a name that is none is refused, and does not pass for all", async () => {
  using client = connect("127.0.0.1:1");
  const state = "done" as "failed";
  await assert.rejects(client.listRequests({ state }).next(), {
    name: "InvalidRequest",
    reason: "VALUE_OUT_OF_RANGE",
    field: "state",
    message: "state must be one of queued, running, succeeded, failed, cancelled, not done",
  });
  const priority = "toString" as "low";
  await assert.rejects(client.submit({ ...QUESTION, priority }), {
    name: "InvalidRequest",
    message: "priority must be one of normal, low, not toString",
  });
});

test("what cannot be sent is no loss that is tried again", () =>
  serving(
    {},
    async (client) => {
      const answer = (events: AsyncGenerator) => events.next();
      const wrong = [
        [answer(client.watch("r-1", { after: 2n ** 63n })), "after"],
        [answer(client.watch("r-1", { after: 0.5 })), "after"],
        [answer(client.watch("\ud800")), "request_id"],
        [client.result("\ud800", { wait: true }), "request_id"],
        [client.submitAndWatch({ ...QUESTION, requestId: "\ud800" }), "request_id"],
        [client.upload(new Uint8Array(9), { name: "\ud800" }), "start.name"],
        [answer(client.watch("r-1", { headers: { "a name": "a" } })), "headers"],
        [client.result("r-1", { wait: true, headers: { Connection: "close" } }), "headers"],
        [client.result("r-1", { wait: true, headers: { traceparent: "a\n" } }), "headers"],
      ] as const;
      for (const [call, field] of wrong) {
        await assert.rejects(call, (error) => {
          assert(error instanceof InvalidRequest, String(error));
          assert.equal(error.field, field);
          return true;
        });
      }
    },
    { deadlineMs: 5000, retries: { onLost: assert.fail } },
  ));

test("targets are read as people write them, and others are refused without being shown", () => {
  const read = {
    "": "127.0.0.1:50051",
    host: "host:50051",
    "host:1": "host:1",
    "grpcs://host": "host:50051",
    "https://host": "host:443",
    "http://[::1]:2": "[::1]:2",
    " host:65535\n": "host:65535",
    " ": "127.0.0.1:50051",
  };
  for (const [given, target] of Object.entries(read)) {
    assert.equal(connect(given).target, target);
  }
  const wrong = ["https://name:secret@host", "https://host/path", "a b", "host:0", "https://host:65536"];
  for (const given of wrong) {
    assert.throws(
      () => connect(given),
      (error) => {
        assert(error instanceof SettingInvalid);
        assert.deepEqual([error.field, error.code], ["target", "INVALID_ARGUMENT"]);
        assert(!error.message.includes("secret"));
        return true;
      },
    );
  }
  assert.throws(() => connect("grpc://host", { tls: true }), SettingInvalid);
});

test("a key with characters that no key has is refused without being shown", () => {
  assert.throws(
    () => connect("host", { key: "sécret" }),
    (error) => error instanceof AuthenticationFailed && !error.message.includes("sécret"),
  );
});

test("a client that was closed calls nobody", () =>
  serving({}, async (client) => {
    client.close();
    await assert.rejects(client.generate(QUESTION), { code: "CANCELLED" });
  }));

test("a client of a port that speaks no HTTP/2 can be closed at once, and the program goes on", async () => {
  const program = `
    import { once } from "node:events";
    import { createServer } from "node:http";
    import { connect } from "idefics2-client";
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = connect("127.0.0.1:" + server.address().port, { key: "local.key" });
    await client.generate({ image: new Uint8Array([1]), prompt: "What?" }).catch((error) => console.log(error.code));
    client.close();
    server.close();
    process.on("exit", () => console.log("went on"));
  `;
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", program]);
  assert.equal(stdout, "UNAVAILABLE\nwent on\n");
});
