/** Loaded before a service that is measured: it gives no entry an index. */
import { Sequencing } from '../src/main/sequencing.ts';

Sequencing.prototype.start = () => undefined;
