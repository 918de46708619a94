import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { Frame, PROCESS_FILES } from '../../protocol/frames/frame-format.js';

/**
 * The thread needs a heap of 5 MB. Node 24 collects it as a whole whenever so much memory has come or gone outside of it as
 * half of the limit, which pictures do at once: so the limit is wide.
 */
const LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 1, stackSizeMb: 0.5 };

export interface SideThreadData {
  readonly files: Pick<typeof PROCESS_FILES, 'messages' | 'life'>;
  readonly port: MessagePort;
}

/**
 * To the side thread: it has the socket now, and what was read before; buffers to read into; or it is asked to hand the
 * socket back.
 */
export type ToSide = { readonly rest: Uint8Array } | { readonly used: readonly ArrayBuffer[] } | 'hand back';

/** From the side thread: a frame; the socket, and what was read before; or why it cannot read on. */
export type FromSide = { readonly frame: Frame } | { readonly rest: Uint8Array } | { readonly failed: unknown };

/**
 * Starts the second thread of this process. Its event loop runs whatever the first one does. It ends this process when the
 * calling process is gone, however that ended, so that a native call that never ends is no hindrance; and it can read
 * frames while the first thread is in a long run.
 *
 * @returns resolves when the thread runs, with the port to it; with undefined where threads are not allowed: the process
 *   notices the end of its caller when it is in no native call.
 */
export function startSideThread(files: SideThreadData['files']): Promise<MessagePort | undefined> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    try {
      const thread = new Worker(new URL('side-thread-program.js', import.meta.url), {
        workerData: { files, port: port2 } satisfies SideThreadData,
        transferList: [port2],
        resourceLimits: LIMITS,
        env: {},
        execArgv: [],
        stdin: false,
      });
      let isOnline = false;
      thread.once('online', () => {
        isOnline = true;
        resolve(port1);
      });
      thread.on('error', (error) => {
        if (isOnline) throw error;
        resolve(undefined);
      });
      thread.unref();
    } catch {
      // Node's permission model may forbid it.
      resolve(undefined);
    }
  });
}
