import { MessageChannel } from 'node:worker_threads';

/** A port that is closed before its first use: what is sent to it is taken from the sender, and dropped. */
const { port1: nowhere, port2 } = new MessageChannel();
port2.close();
nowhere.unref();

/**
 * Frees the memory of buffers at once: their arrays are empty after that. The garbage collector would free it later, and
 * until then whoever sends the next picture gets new memory from the system, page by page.
 */
export function freeBuffers(buffers: readonly ArrayBuffer[]): void {
  if (buffers.length > 0) nowhere.postMessage(undefined, buffers);
}
