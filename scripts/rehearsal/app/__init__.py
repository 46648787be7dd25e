"""The stand-in applications, monolith and Task Service: one program in two guises. The door is `server`."""
