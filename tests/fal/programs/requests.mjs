// Calls fetch as programs do that know nothing of fal's clients. Each argument is a call, `[kind, address, init,
// options]`; what comes of it is a line, `{status, text}` or `{error}`.
const make = { request: (address, init) => new Request(address, init), url: (address) => new URL(address) };

for (const [kind, address, init, options] of process.argv.slice(2).map((call) => JSON.parse(call))) {
  const input = make[kind]?.(address, init) ?? address;
  const told = await fetch(input, options).then(
    async (answer) => ({ status: answer.status, text: await answer.text() }),
    (error) => ({ error: error.name }),
  );
  console.log(JSON.stringify(told));
}
