// Lets either client believe that it is in a browser, where `proxyUrl` is all it needs.
globalThis.window = { document: {} };
const module = await import(process.env.FAL_PACKAGE);
(module.fal ?? module).config({
  proxyUrl: `${process.env.GATEWAY}/api/fal/proxy`,
  suppressLocalCredentialsWarning: true,
});
