// A replica's thread that exits before it takes its task.
process.exit(5);
