// What a replica of the tests answers: a run with its model's key, at once, or in a later turn of its event loop if the
// key begins with "later". It posts an event when it begins. The key "throw" is an uncaught error and "exit" an exit;
// "foreign" is answered after `foreign()`. The answer to "turned?" is whether the event loop had a turn since the first
// "turned?".
export function echo(post, foreign = () => undefined) {
  let hasTurned = false;
  return async ({ model: key, kind }) => {
    if (kind !== 'run') return { answer: { value: undefined } };
    post({ event: { kind: 'model-loading', key } });
    if (key === 'exit') process.exit(3);
    if (key === 'throw') {
      setImmediate(() => {
        throw new Error('thrown in the replica');
      });
      await new Promise(() => undefined);
    }
    if (key === 'foreign') foreign();
    if (key === 'turned?') {
      setImmediate(() => {
        hasTurned = true;
      });
      return { answer: { value: hasTurned ? 'yes' : 'no' } };
    }
    if (key.startsWith('later')) await new Promise(setImmediate);
    return { answer: { value: key } };
  };
}
