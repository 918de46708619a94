import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';

type Clone = <T>(value: T, transfer?: readonly ArrayBuffer[]) => T;

/**
 * Returns a structured clone.
 *
 * @param transfer buffers to move to the clone, all or none.
 * @throws DataCloneError for a value that cannot be cloned, such as a function.
 */
export const clone: Clone =
  typeof structuredClone === 'function'
    ? (value, transfer) => structuredClone(value, transfer && { transfer: [...transfer] })
    : cloneByMessage;

/** For environments of test runners that have no `structuredClone`, such as jsdom's. */
function cloneByMessage<T>(value: T, transfer: readonly ArrayBuffer[] = []): T {
  const { port1, port2 } = new MessageChannel();
  try {
    port1.postMessage(value, [...transfer]);
    return receiveMessageOnPort(port2)?.message;
  } finally {
    port1.close();
  }
}
