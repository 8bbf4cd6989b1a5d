/** Asks about a picture, and writes the answer as it comes: node ask.js cat.png "What is on the sofa?" */
import { Idefics2Error, connect } from "idefics2-client";

const [image = "", prompt = ""] = process.argv.slice(2);
const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());

// Where and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY, or the arguments of connect.
const client = connect();
try {
  const question = { image, prompt, temperature: 0, maxNewTokens: 100 };
  const options = { deadlineMs: 60_000, signal: interrupted.signal };
  for await (const { event } of client.stream(question, options)) {
    if (event.case === "textDelta") {
      process.stdout.write(event.value.text);
    } else if (event.case === "finished") {
      process.stdout.write("\n");
    }
  }
} catch (error) {
  if (!(error instanceof Idefics2Error)) {
    throw error;
  }
  console.error(`${error.message} (${error.reason || error.code})`);
  process.exitCode = 1;
} finally {
  client.close();
}
