// A handler whose models and configurations come late, and that tells what was disposed of.
import { BroadcastChannel } from 'node:worker_threads';

const disposed = [];
const channel = new BroadcastChannel('late-handler');
channel.unref();

export default {
  async loadModel(id) {
    await new Promise((resolve) => setTimeout(resolve, 150));
    const dispose = () => {
      if (id === 'stuck') throw new Error('not today');
      disposed.push(id);
      channel.postMessage(id);
    };
    return { id, dispose };
  },
  async reconfigure(userConfig) {
    await new Promise((resolve) => setTimeout(resolve, userConfig.afterMs));
  },
  async handle(request, context) {
    if (request === 'disposed') return disposed;
    return (await context.getModel(context.modelId)).id;
  },
};
