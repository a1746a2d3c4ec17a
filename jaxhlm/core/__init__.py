"""What everything rests on: settings, errors of arguments, files, streams, memory."""
