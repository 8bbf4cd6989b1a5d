// Points either client by a fetch of one's own.
const services = {
  "fal.run": "run",
  "queue.fal.run": "queue",
  "rest.fal.ai": "rest",
  "rest.alpha.fal.ai": "rest",
};
const module = await import(process.env.FAL_PACKAGE);
(module.fal ?? module).config({
  fetch: (input, options) => {
    const { host, pathname, search } = new URL(input);
    const url = host in services ? `${process.env.GATEWAY}/${services[host]}${pathname}${search}` : input;
    return fetch(url, options);
  },
});
