// Gives a process a tenth of its time: stops it for 90 ms of each 100. Ends with it, or with SIGTERM.
const pid = Number(process.argv[2]);
const cell = new Int32Array(new SharedArrayBuffer(4));
const sleep = (ms) => Atomics.wait(cell, 0, 0, ms);
process.on('exit', () => {
  try {
    process.kill(pid, 'SIGCONT');
  } catch {}
});
const period = () => {
  try {
    process.kill(pid, 'SIGSTOP');
    sleep(90);
    process.kill(pid, 'SIGCONT');
    sleep(10);
    // Signals are seen between two turns.
    setImmediate(period);
  } catch {
    process.exit(0);
  }
};
process.on('SIGTERM', () => process.exit(0));
period();
