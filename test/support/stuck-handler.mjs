// A handler whose thread gets stuck in the place and in the way that the environment names.
import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';

const { STUCK_IN, STUCK_FILE } = process.env;
const [place, way] = STUCK_IN.split(' ');

const ways = {
  // Somebody else's native code: Node cannot end it. Descriptor 3 is a pipe from the parent.
  native: () => execFileSync('sh', ['-c', 'printf x >> "$STUCK_FILE"; read line <&3'], { stdio: [3, 1, 2, 3] }),
  spin: () => {
    appendFileSync(STUCK_FILE, 'x');
    for (;;);
  },
  wait: () => {
    appendFileSync(STUCK_FILE, 'x');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
};

function reach(here) {
  if (here === place) ways[way]();
}

reach('import');

export const reconfigure = () => reach('reconfigure');
export const checkHealth = () => reach('checkHealth');
export async function loadModel() {
  reach('loadModel');
  return {};
}
export async function handle(_request, context) {
  reach('handle');
  if (place === 'loadModel') await context.getModel('own');
  return 'done';
}
