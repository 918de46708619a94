/** Whether replicas are threads: not where `isolated.config.ts` runs the tests once more. */
export const areThreads = process.env['TEST_ISOLATION'] !== 'process';
