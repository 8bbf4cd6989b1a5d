// The same call in other languages, to copy. The key stands in a variable of the environment.

const NEEDS = {
  curl: "The key is taken from IDEFICS2_API_KEY.",
  javascript: "npm install @fal-ai/client. The key is taken from FAL_KEY.",
  python: "pip install fal-client. The key is taken from FAL_KEY.",
  grpc: "pip install . in a checkout of idefics2-serving. The key is taken from IDEFICS2_API_KEY.",
  buf: "The key is taken from IDEFICS2_API_KEY; the schema from the service.",
};
const TYPES = { jpg: "jpeg", jpeg: "jpeg", webp: "webp", gif: "gif", bmp: "bmp", tif: "tiff", tiff: "tiff" };
const write = JSON.stringify; // texts and numbers of JSON are those of JavaScript and of Python, too

/**
 * Writes a call. `base` is the page's URL without its last slash, `grpc` is `{host, port, tls}` of the gRPC face,
 * `picture` as in picture.js, `input` the request's other fields.
 */
export function writeCall(language, { base, app, grpc, picture, input }) {
  const named = { file: picture?.file?.name || "image.png", address: picture?.address };
  return { code: WRITERS[language]({ base, app, grpc, input, ...named }), needs: NEEDS[language] };
}

const WRITERS = {
  curl: ({ base, app, input, file, address }) => `curl ${quote(`${base}/run/${app}`)} \\
  -H "Authorization: Key $IDEFICS2_API_KEY" \\
  -H "Content-Type: application/json" \\
  --data-binary @- <<END
${writeShell(input, file, address)}
END`,

  buf: ({ grpc, input, file, address }) => `buf curl --protocol grpc ${grpc.tls ? "" : "--http2-prior-knowledge "}\\
  -H "Authorization: Key $IDEFICS2_API_KEY" -d @- \\
  ${grpc.tls ? "https" : "http"}://${grpc.host}:${grpc.port}/idefics2.v1.GenerationService/Generate <<END
${writeShell(input, file, address)}
END`,

  javascript: ({ base, app, input, file, address }) => `\
${address ? "" : 'import { readFile } from "node:fs/promises";\n'}\
import { fal } from "@fal-ai/client";

fal.config({
  credentials: process.env.FAL_KEY,
  proxyUrl: { url: ${write(`${base}/api/fal/proxy`)}, when: "always" },
});

${address ? "" : `const image = await readFile(${write(file)}, "base64");\n`}\
const { data } = await fal.subscribe(${write(app)}, {
  input: {
    image_url: ${address ? write(address) : `\`data:${typeOf(file)};base64,\${image}\``},
${list(input, (name, value) => `    ${name}: ${write(value)},`)}
  },
});
console.log(data.output);`,

  python: ({ base, app, input, file, address }) => `import fal_client
from fal_client import client

client.RUN_URL_FORMAT = ${write(`${base}/run/`)}
client.QUEUE_URL_FORMAT = ${write(`${base}/queue/`)}

result = fal_client.subscribe(
    ${write(app)},
    {
        "image_url": ${address ? write(address) : `fal_client.encode_file(${write(file)})`},
${list(input, (name, value) => `        "${name}": ${write(value)},`)}
    },
)
print(result["output"])`,

  grpc: ({ grpc, input: { prompt, ...others }, file, address }) => `from idefics2_client import Client

with Client(${write(`${grpc.tls ? "grpcs://" : ""}${grpc.host}:${grpc.port}`)}) as client:
    answer = client.generate(
        ${write(address ?? file)},
        ${write(prompt)},
${list(others, (name, value) => `        ${name}=${value},`)}
    )
print(answer.output)`,
};

function list(input, writeOne) {
  return Object.entries(input).map(([name, value]) => writeOne(name, value)).join("\n");
}

/** JSON in a here-document, where dollars, backticks and backslashes mean something to the shell. */
function writeShell(input, file, address) {
  const escape = (value) => write(value).replace(/[\\$`]/g, "\\$&");
  const image = address ? escape(address) : `"data:${typeOf(file)};base64,$(base64 < ${quote(file)} | tr -d '\\n')"`;
  const lines = Object.entries(input).map(([name, value]) => `,\n  "${name}": ${escape(value)}`);
  return `{\n  "image_url": ${image}${lines.join("")}\n}`;
}

function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function typeOf(name) {
  return `image/${TYPES[name.split(".").pop().toLowerCase()] ?? "png"}`;
}
