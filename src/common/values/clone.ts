import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { compact } from './compact.js';

/**
 * Returns a structured clone. Of a view on a part of a buffer it has the elements, and not the memory beside them.
 *
 * @param transfer buffers to move to the clone, all or none.
 * @throws DataCloneError for a value that cannot be cloned, such as a function.
 */
export function clone<T>(value: T, transfer: readonly ArrayBuffer[] = []): T {
  return cloneWhole(compact(value), [...transfer]);
}

const cloneWhole: <T>(value: T, transfer: ArrayBuffer[]) => T =
  typeof structuredClone === 'function'
    ? (value, transfer) => structuredClone(value, { transfer })
    : // In environments of test runners that have no `structuredClone`, such as jsdom's.
      (value, transfer) => {
        const { port1, port2 } = new MessageChannel();
        try {
          port1.postMessage(value, transfer);
          return receiveMessageOnPort(port2)?.message;
        } finally {
          port1.close();
        }
      };
