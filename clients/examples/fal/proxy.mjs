import { fal } from "@fal-ai/client";

const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8080";
fal.config({ proxyUrl: { url: `${gateway}/api/fal/proxy`, when: "always" } });
