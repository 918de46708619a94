const { workerData } = require('node:worker_threads') as typeof import('node:worker_threads');

/**
 * What every thread begins with: it imports the thread's own entry, and hands Piscina its task. Piscina gets a module by
 * `require`, and a thread that is ended while Node requires an ECMAScript module aborts the process: on Node 20 and 22, 1
 * in 200 of those ended as they started (`v8::Module::IsGraphAsync` on a module that is not instantiated). An import may
 * be ended at any time.
 */
module.exports = import(workerData.entry).then(({ default: task }) => task);
