// A handler with models of its own. It reports what happened to them.
const story = [];

class Own {
  constructor(id) {
    this.id = id;
  }
  [Symbol.asyncDispose]() {
    story.push(`disposed ${this.id}`);
    if (this.id.endsWith('stuck')) return Promise.reject(new Error('it holds on'));
    return Promise.resolve();
  }
}

export default {
  async loadModel(id) {
    if (id.startsWith('slow')) await new Promise((resolve) => setTimeout(resolve, 200));
    if (id.startsWith('bad')) throw new Error('nothing there');
    if (id.startsWith('endless')) return new Promise(() => undefined);
    story.push(`loaded ${id}`);
    const sized = /^sized-(\d+)/.exec(id);
    if (sized !== null) return { model: new Own(id), bytes: Number(sized[1]) };
    return id.startsWith('plain') ? { id } : new Own(id);
  },
  async handle(ids, context) {
    if (ids?.includes('exit')) process.exit(1);
    const models = [];
    for (const id of ids ?? [context.modelId]) models.push(await context.getModel(id));
    return { models: models.map(({ id }) => id), replica: context.replica, story: [...story] };
  },
};
