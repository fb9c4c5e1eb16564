/**
 * Loaded before a service that is measured: an entry of a use is made and encoded as always, and said to be
 * durable at once. So what is measured is group commit, batch HMAC and everything behind them.
 */
import './without-sequencer.ts';
import { UseLane } from '../src/audit/lane.ts';

let entries = 0;
UseLane.prototype.append = () => Promise.resolve(`1-${String((entries += 1))}`);
