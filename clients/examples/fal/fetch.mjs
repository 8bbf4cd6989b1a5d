import { fal } from "@fal-ai/client";

const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8080";
const services = {
  "fal.run": "run",
  "queue.fal.run": "queue",
  "rest.fal.ai": "rest",
  "rest.alpha.fal.ai": "rest",
};
fal.config({
  fetch: (input, options) => {
    const { host, pathname, search } = new URL(input);
    const url = host in services ? `${gateway}/${services[host]}${pathname}${search}` : input;
    return fetch(url, options);
  },
});
