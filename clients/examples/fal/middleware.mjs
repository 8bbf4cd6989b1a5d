import { fal } from "@fal-ai/client";

const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8080";
const services = {
  "fal.run": "run",
  "queue.fal.run": "queue",
  "rest.fal.ai": "rest",
  "rest.alpha.fal.ai": "rest",
};
fal.config({
  requestMiddleware: async (request) => {
    const { host, pathname, search } = new URL(request.url);
    return { ...request, url: `${gateway}/${services[host]}${pathname}${search}` };
  },
});
