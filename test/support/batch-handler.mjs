// A handler of batches that does what their requests ask for.
const sizes = [];

export async function handleBatch(requests, context) {
  sizes.push(requests.length);
  const [first] = requests;
  if (first?.wait) await new Promise((resolve) => setTimeout(resolve, first.wait));
  if (requests.includes('too few')) return requests.slice(1);
  if (requests.includes('no list')) return 'none';
  if (requests.includes('throw')) throw new Error('all of them');
  if (requests.includes('never')) return new Promise(() => undefined);
  if (requests.includes('exit')) process.exit(1);
  if (requests.some((request) => request?.isEndless)) await context.engine.run('app', { isEndless: true });
  if (first?.nested) return Promise.all(requests.map(() => context.engine.run(first.nested, first.request)));
  return requests.map((request) => {
    if (request === 'error') return new Error('this one');
    if (request === 'function') return () => undefined;
    if (request === 'sizes') return sizes.splice(0);
    if (request === 'model') return context.modelId;
    return request;
  });
}
