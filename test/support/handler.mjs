// A handler that does what its requests ask for.
let config = { factor: 1 };
let isIll = false;
let requests = 0;

export function reconfigure(userConfig) {
  if (userConfig.refuse) throw new Error('no such configuration');
  config = userConfig;
}

export async function handle(request, context) {
  requests += 1;
  switch (request?.do) {
    case 'echo':
      return request.value;
    case 'part':
      return { text: Buffer.from('text'), part: memory.subarray(0, 4) };
    case 'measure':
      return request.views.map(({ buffer }) => buffer.byteLength);
    case 'outputs':
      return context.run(request.model, { x: { dims: [1, 4], data: request.x } });
    case 'run feeds':
      return context.run(request.model, request.feeds);
    case 'run held':
      return (await context.getModel(request.model)).run(request.feeds);
    case 'run': {
      const { y } = await context.run(request.model, { x: { dims: [1, 4], data: request.x } });
      return config.factor * y.data[0];
    }
    case 'both': {
      const [first, second] = await Promise.all(request.models.map((id) => context.getModel(id)));
      const { y } = await first.run({ x: { dims: [1, 4], data: request.x } });
      const answer = await second.run({ x: y }, ['y']);
      return { answer: answer.y.data[0], inputs: first.inputs.map(({ name }) => name) };
    }
    case 'odd outputs': {
      const { omittedOutputs, run } = await context.getModel(request.model);
      const omitted = omittedOutputs.map(({ name }) => name);
      const refused = await context.run(request.model, request.feeds, [omitted[0]]).catch(({ code }) => code);
      return { names: Object.keys(await run(request.feeds)), omitted, refused };
    }
    case 'run and change': {
      // The arrays are the handler's again at once.
      const model = await context.getModel(request.model);
      const shared = new Float32Array(new SharedArrayBuffer(16));
      const calls = [new Float32Array(4), shared].flatMap((data) => {
        data[0] = request.first;
        const feeds = { x: { dims: [1, 4], data } };
        const begun = [context.run(request.model, feeds), model.run(feeds)];
        data.fill(9);
        return begun;
      });
      return (await Promise.all(calls)).map(({ y }) => y.data[0]);
    }
    case 'spoil': {
      const model = await context.getModel(request.model);
      const attempts = [
        () => model.inputs.pop(),
        () => model.outputs.pop(),
        () => {
          model.inputs[0].type = 'int64';
        },
      ];
      return attempts.map((attempt) => {
        try {
          return attempt();
        } catch ({ name }) {
          return name;
        }
      });
    }
    case 'bad outputs': {
      const feeds = { x: { dims: [1, 4], data: new Float32Array(4) } };
      const model = await context.getModel(request.model);
      const ways = [(names) => context.run(request.model, feeds, names), (names) => model.run(feeds, names)];
      const wrong = ['y', [], new Array(1), [7], { outputs: ['y'] }, ['z']];
      const code = (call) => call.then(Object.keys, (error) => error.code);
      return Promise.all(ways.flatMap((way) => wrong.map((names) => code(way(names)))));
    }
    case 'log oddly':
      context.log('warn', { run() {}, url: new URL('file:///x'), big: 7n, page: 7 }, 'odd');
      context.log('error', new Error('whole'), Symbol('text'));
      context.log('warn', null, 'nothing');
      return 'logged';
    case 'bad feeds':
      return context.run('times-1', {});
    case 'throw':
      throw new Error('as asked');
    case 'function':
      return () => undefined;
    case 'wait':
      // For ever, unless nobody needs the answer any more.
      return new Promise((_, reject) => {
        if (request.isStubborn) return;
        context.signal.addEventListener('abort', () => {
          aborted += 1;
          reject(new Error('aborted'));
        });
      });
    case 'race':
      // It does not wait for its model.
      return Promise.race([context.getModel(request.model), 'early']);
    case 'several': {
      const models = await Promise.all(request.models.map((id) => context.getModel(id)));
      return models.length;
    }
    case 'log':
      context.log('warn', { page: 7 }, 'something to say');
      return 'said';
    case 'log a part':
      context.log('warn', { part: memory.subarray(0, 4) }, 'a part');
      return 'said';
    case 'leave': {
      const model = await context.getModel('times-1');
      // It starts calls and waits for none.
      void model.run({});
      void context.getModel('times-1');
      void context.run('times-1', {});
      void context.getModel('none');
      return 'left';
    }
    case 'ask in vain':
      // It does not wait for its model.
      context.getModel(request.model).catch(() => undefined);
      return 'asked';
    case 'nap':
      await new Promise((resolve) => setTimeout(resolve, request.ms));
      return 'rested';
    case 'odd':
      throw oddities[request.kind];
    case 'spin':
      for (;;);
    case 'count':
      // As long as the thread lives.
      for (;;) {
        Atomics.add(request.counter, 0, 1);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    case 'exit':
      process.exit(1);
      break;
    case 'fall ill':
      isIll = true;
      return 'ill';
    default:
      return { requests, aborted, config, modelId: context.modelId, replica: context.replica };
  }
}

const memory = new Float32Array(1_000);
let aborted = 0;

const oddities = {
  nothing: undefined,
  text: 'as asked',
  'an object for a message': Object.assign(new Error(), { message: { a: 1 } }),
  'what cannot be looked at': new Proxy(
    {},
    {
      get() {
        throw new Error('hidden');
      },
      getPrototypeOf() {
        throw new Error('hidden');
      },
    },
  ),
};

export function checkHealth() {
  if (isIll) throw new Error('not well');
}

export function recordRoutingStats() {
  if (config.noStats) throw new Error('no stats');
  return config.noNumbers ? { throughput: Number.NaN } : { requests, part: memory.subarray(0, 4) };
}
