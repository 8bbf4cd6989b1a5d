const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8080";
const services = {
  "fal.run": "run",
  "queue.fal.run": "queue",
  "rest.fal.ai": "rest",
  "rest.alpha.fal.ai": "rest",
};
const fetchAnywhere = globalThis.fetch;
globalThis.fetch = async (input, options) => {
  const address = input instanceof Request ? input.url : input;
  const { host, pathname, search } = URL.canParse(address) ? new URL(address) : {};
  if (!Object.hasOwn(services, host)) {
    return fetchAnywhere(input, options);
  }
  const url = `${gateway}/${services[host]}${pathname}${search}`;
  return fetchAnywhere(input instanceof Request ? new Request(url, input) : url, options);
};
