// Points either client by a middleware that maps hosts to prefixes. Uploads of bytes need nothing: their URL is told.
const module = await import(process.env.FAL_PACKAGE);
const services = {
  "fal.run": "run",
  "queue.fal.run": "queue",
  "rest.fal.ai": "rest",
  "rest.alpha.fal.ai": "rest",
};
(module.fal ?? module).config({
  requestMiddleware: async (request) => {
    const { host, pathname, search } = new URL(request.url);
    return { ...request, url: `${process.env.GATEWAY}/${services[host]}${pathname}${search}` };
  },
});
