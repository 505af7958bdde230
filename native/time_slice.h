// How the system's scheduler treats the calling thread.
#pragma once

namespace octavo {

// The calling thread works for a moment and then waits, and others wait for it: it asks for the shortest time
// slices. What it gets of a processor stays the same, but Linux (from 6.12 on) lets it in at once when it
// wakes, where it would first let the thread that computes there come to the end of its own slice. False where
// there is no such thing, or it is not allowed.
bool shortenTimeSlice();

}  // namespace octavo
