export { InfermuxInstrumentation } from './instrumentation.js';
