# Perl's Net::FTP: one task in one session. Its dialogue goes to stderr, listings to stdout.
use strict;
use warnings;
use Net::FTP;

my ($mode, $host, $port, $tls, $authority, $user, $password, $folder, $task, @arguments) = @ARGV;

my %options = (Port => $port, Passive => $mode eq 'passive', Timeout => 20, Debug => 1);
$options{SSL} = 1 if $tls eq 'implicit';
if ($tls ne 'none') {
    $options{SSL_ca_file} = $authority;
    $options{SSL_verify_mode} = 1;
}
my $ftp = Net::FTP->new($host, %options) or die "cannot connect: $@";

sub must {
    my ($what, $done) = @_;
    die "$what: ", $ftp->code, ' ', $ftp->message, " $@" unless $done;
    return $done;
}

must('starttls', $ftp->starttls) if $tls eq 'explicit';
must('login', $ftp->login($user, $password));
must('prot', $ftp->prot('P')) if $tls eq 'implicit';
must('binary', defined $ftp->binary);
must('cwd', $ftp->cwd($folder));

sub names {
    my ($path) = @_;
    my @names = $ftp->ls($path);
    must("ls $path", $ftp->ok);
    return @names;
}

# Net::FTP reads no facts of a listing: what can be changed to is a folder.
sub is_folder {
    my ($path) = @_;
    $ftp->cwd("/$folder/$path") or return 0;
    must('cwd', $ftp->cwd("/$folder"));
    return 1;
}

sub mirror_up {
    my ($local, $remote) = @_;
    must("mkdir $remote", $ftp->mkdir($remote));
    opendir(my $handle, $local) or die "$local: $!";
    for my $name (grep { $_ ne '.' && $_ ne '..' } readdir $handle) {
        my ($from, $to) = ("$local/$name", "$remote/$name");
        if (-d $from) { mirror_up($from, $to) }
        else { must("put $to", $ftp->put($from, $to)) }
    }
    closedir $handle;
}

sub mirror_down {
    my ($remote, $local) = @_;
    mkdir $local or die "$local: $!";
    must("cwd $remote", $ftp->cwd("/$folder/$remote"));
    my @names = names('-a');
    must('cwd', $ftp->cwd("/$folder"));
    for my $name (@names) {
        my ($from, $to) = ("$remote/$name", "$local/$name");
        if (is_folder($from)) { mirror_down($from, $to) }
        else { must("get $from", $ftp->get($from, $to)) }
    }
}

my %tasks = (
    names => sub {
        must('cwd', $ftp->cwd($_[0]));
        print "$_\n" for names('-a');
    },
    upload => sub { must('put', $ftp->put($_[0], $_[1])) },
    download => sub { must('get', $ftp->get($_[0], $_[1])) },
    resume_upload => sub {
        my ($local, $remote) = @_;
        my $size = must('size', $ftp->size($remote));
        open(my $file, '<:raw', $local) or die "$local: $!";
        seek($file, $size, 0) or die "$local: $!";
        must('append', $ftp->append($file, $remote));
    },
    resume_download => sub {
        my ($remote, $local) = @_;
        must('get', $ftp->get($remote, $local, -s $local));
    },
    mirror_up => \&mirror_up,
    mirror_down => \&mirror_down,
    rename => sub { must('rename', $ftp->rename($_[0], $_[1])) },
    delete => sub { must('delete', $ftp->delete($_[0])) },
);
$tasks{$task}->(@arguments);
must('quit', $ftp->quit);
