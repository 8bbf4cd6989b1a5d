/** The HTTP/2 sessions of a channel. */
import { Http2SessionManager } from "@connectrpc/connect-node";

/**
 * Connects as its parent does, which listens no more to a session that it left. One that died may say why only
 * afterwards, and where nobody listens, Node ends the process.
 */
export class Sessions extends Http2SessionManager {
  readonly #known = new WeakSet<object>();

  override async request(...call: Parameters<Http2SessionManager["request"]>) {
    const stream = await super.request(...call);
    const { session } = stream;
    if (session && !this.#known.has(session)) {
      this.#known.add(session);
      session.on("error", () => {}); // told to the call already
    }
    return stream;
  }
}
