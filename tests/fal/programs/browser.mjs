// Lets either client believe that it is in a browser, and points it there as a page would.
globalThis.window = { document: {} };
const { point } = await import("./page.mjs");
point(process.env.GATEWAY, process.env.FAL_KEY);
