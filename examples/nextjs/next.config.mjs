/** @type {import('next').NextConfig} */
export default {
  // The threads run files of these packages, so they must not be bundled.
  serverExternalPackages: ['infermux', 'onnxruntime-node'],
  outputFileTracingRoot: import.meta.dirname,
};
