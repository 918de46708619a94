import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';

/**
 * Returns a structured clone.
 *
 * @throws DataCloneError for a value that cannot be cloned, such as a function.
 */
export const clone: <T>(value: T) => T = typeof structuredClone === 'function' ? structuredClone : cloneByMessage;

/** For environments of test runners that have no `structuredClone`, such as jsdom's. */
function cloneByMessage<T>(value: T): T {
  const { port1, port2 } = new MessageChannel();
  try {
    port1.postMessage(value);
    return receiveMessageOnPort(port2)?.message;
  } finally {
    port1.close();
  }
}
