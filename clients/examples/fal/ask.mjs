import { fal } from "@fal-ai/client"; // it reads the key from FAL_KEY

const [image_url, prompt] = process.argv.slice(2);
const result = await fal.subscribe("fal-ai/idefics-2-8b", {
  input: { image_url, prompt, temperature: 0 },
  logs: true,
  onQueueUpdate: (update) => {
    if (update.status === "IN_PROGRESS") {
      update.logs.map((log) => log.message).forEach((line) => console.error(line));
    }
  },
});
console.log(result.data.output);
