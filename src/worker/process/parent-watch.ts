import { Worker } from 'node:worker_threads';

/** The whole program of the watch. Its event loop runs whatever the other thread does. */
const PROGRAM = `
const { Socket } = require('node:net');
const { workerData } = require('node:worker_threads');
const end = () => process.kill(process.pid, 'SIGKILL');
new Socket({ fd: workerData, readable: true, writable: false }).on('end', end).on('error', end).resume();`;

/** A heap as small as Node starts with. */
const LIMITS = { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1, stackSizeMb: 0.5 };

/**
 * Ends this process when the calling process is gone, however that ended, and whatever this one is doing: a thread of its
 * own waits for it, so that a native call that never ends is no hindrance.
 *
 * Where threads are not allowed, the process notices the end when it is in no call.
 *
 * @param file of a socket that nothing is written to.
 * @returns resolves when the watch is there.
 */
export function watchParent(file: number): Promise<void> {
  return new Promise((resolve) => {
    try {
      const watch = new Worker(PROGRAM, {
        eval: true,
        workerData: file,
        resourceLimits: LIMITS,
        env: {},
        execArgv: [],
        stdin: false,
      });
      watch.once('online', resolve);
      watch.on('error', () => resolve());
      watch.unref();
    } catch {
      // Node's permission model may forbid it.
      resolve();
    }
  });
}
