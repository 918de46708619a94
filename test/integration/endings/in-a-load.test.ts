import { describeEndings } from '../../support/endings.js';

// A file of its own: the two run side by side.
describeEndings('load');
