import { openAsBlob } from "node:fs";
import { fal } from "@fal-ai/client";

console.log(await fal.storage.upload(await openAsBlob(process.argv[2], { type: "image/png" })));
