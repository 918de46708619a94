// A handler with models of its own. It reports what happened to them.
const story = [];

class Own {
  constructor(id) {
    this.id = id;
  }
  [Symbol.asyncDispose]() {
    story.push(`disposed ${this.id}`);
    return Promise.resolve();
  }
}

export default {
  async loadModel(id) {
    if (id.startsWith('slow')) await new Promise((resolve) => setTimeout(resolve, 200));
    if (id.startsWith('bad')) throw new Error('nothing there');
    if (id.startsWith('endless')) return new Promise(() => undefined);
    story.push(`loaded ${id}`);
    return id.startsWith('plain') ? { id } : new Own(id);
  },
  async handle(ids, context) {
    if (ids?.includes('exit')) process.exit(1);
    const models = [];
    for (const id of ids ?? [context.modelId]) models.push(await context.getModel(id));
    return { models: models.map(({ id }) => id), replica: context.replica, story: [...story] };
  },
};
