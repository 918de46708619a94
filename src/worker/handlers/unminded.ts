/** Keeps a rejection from ending the thread: a handler may ask for something and not wait for it. */
export function unminded<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
