// A handler whose models and configurations come late, and that tells what was disposed of.
const disposed = [];

export default {
  async loadModel(id) {
    await new Promise((resolve) => setTimeout(resolve, 150));
    return { id, dispose: () => disposed.push(id) };
  },
  async reconfigure(userConfig) {
    await new Promise((resolve) => setTimeout(resolve, userConfig.afterMs));
  },
  async handle(request, context) {
    if (request === 'disposed') return disposed;
    return (await context.getModel(context.modelId)).id;
  },
};
