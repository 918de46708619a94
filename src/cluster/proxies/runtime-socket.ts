import { connect } from 'node:net';

const TIMEOUT_MS = 5_000;
/** Commands of one line: HAProxy reads lines of 16 kB. */
const MOST_COMMANDS = 50;

/** Sends commands to HAProxy's runtime socket, and returns its answers. @throws the error of Node when nobody listens there. */
export async function askHaproxy(socket: string, ...commands: readonly string[]): Promise<string> {
  let answers = '';
  for (let index = 0; index < commands.length; index += MOST_COMMANDS) {
    answers += await askOnce(socket, commands.slice(index, index + MOST_COMMANDS).join(';'));
  }
  return answers;
}

function askOnce(path: string, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`HAProxy did not answer within ${TIMEOUT_MS} ms`)));
    socket.on('data', (bytes) => (text += bytes));
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    socket.write(`${line}\n`);
  });
}
