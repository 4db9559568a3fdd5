"""Model packages: their versions, where they came from, where they are, and which is the champion."""
