// A replica's thread that cannot start.
throw new Error('broken at the start');
