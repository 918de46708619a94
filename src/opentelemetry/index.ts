/// <reference types="node" preserve="true" />
export { InfermuxInstrumentation } from './instrumentation.js';
