import { fal } from "@fal-ai/client";

const [image_url, prompt] = process.argv.slice(2);
const stream = await fal.stream("fal-ai/idefics-2-8b", { input: { image_url, prompt, temperature: 0 } });
for await (const event of stream) process.stdout.write(event.delta ?? "\n");
await stream.done();
