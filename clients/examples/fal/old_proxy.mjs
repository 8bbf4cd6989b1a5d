import * as fal from "@fal-ai/serverless-client";

const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8080";
fal.config({
  requestMiddleware: async (request) => ({
    ...request,
    url: `${gateway}/api/fal/proxy`,
    headers: { ...request.headers, "x-fal-target-url": request.url },
  }),
});
