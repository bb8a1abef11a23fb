# The scenario "kill", with more of them.
kills=50
. /guest/scenarios/kill.sh
