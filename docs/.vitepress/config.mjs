import { defineConfig } from 'vitepress';

const page = (text, name) => ({ text, link: `/${name}` });

/** The pages, by task, in the order in which a reader needs them. A test compares the list with the files. */
export const SIDEBAR = [
  {
    text: 'Start',
    items: [page('Getting started', 'getting-started'), page('Types', 'types'), page('Comparison', 'comparison')],
  },
  {
    text: 'Models and requests',
    items: [
      page('Tensors', 'tensors'),
      page('Batching', 'batching'),
      page('Models and versions', 'models'),
      page('Models from anywhere', 'finder'),
      page('Shared weights', 'shared-weights'),
      page('Handlers', 'handlers'),
    ],
  },
  {
    text: 'Replicas',
    items: [
      page('Deployments', 'deployments'),
      page('Endpoints', 'endpoints'),
      page('Routing', 'routing'),
      page('Example: a router', 'routers'),
      page('Isolation', 'isolation'),
      page('GPUs', 'gpus'),
      page('Performance', 'performance'),
    ],
  },
  {
    text: 'In production',
    items: [
      page('Serving', 'serving'),
      page('Configuration', 'configuration'),
      page('Scaling out', 'scaling-out'),
      page('Observability', 'observability'),
      page('Closing and process exit', 'lifecycle'),
      page('Bundlers and tests', 'bundlers-and-tests'),
      page('Troubleshooting', 'troubleshooting'),
    ],
  },
  {
    text: 'Reference',
    items: [page('Options', 'options'), { text: 'API', link: '/api/' }, page('How it works', 'how-it-works')],
  },
  {
    text: 'Coming from',
    items: [page('Ray Serve', 'coming-from-ray-serve'), page('caikit', 'coming-from-caikit')],
  },
];

export default defineConfig({
  title: 'infermux',
  description: 'Many ONNX models on a pool of worker threads inside one Node.js process.',
  srcExclude: ['node_modules/**', 'package.json'],
  outDir: './.vitepress/dist',
  lastUpdated: false,
  // A link that leads nowhere fails the build, but for addresses that only a reader's machine has.
  ignoreDeadLinks: [/^https?:\/\/localhost/],
  themeConfig: {
    search: { provider: 'local' },
    nav: [page('Getting started', 'getting-started'), page('Options', 'options'), { text: 'API', link: '/api/' }],
    sidebar: SIDEBAR,
    outline: { level: [2, 3] },
  },
});
