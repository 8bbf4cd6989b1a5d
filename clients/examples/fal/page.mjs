import { fal } from "@fal-ai/client";

export function point(gateway, key) {
  fal.config({
    proxyUrl: `${gateway}/api/fal/proxy`,
    credentials: key, // leave it out where a proxy of yours sets the header
    suppressLocalCredentialsWarning: true,
  });
}
