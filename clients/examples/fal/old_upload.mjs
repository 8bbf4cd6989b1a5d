import { openAsBlob } from "node:fs";
import * as fal from "@fal-ai/serverless-client";

console.log(await fal.storage.upload(await openAsBlob(process.argv[2], { type: "image/png" })));
