"""Files and signals: fetch them, see what they really are, read and write pictures, sound and video."""
